# One image per target: dagster (code server, web server, daemon, runs, MLflow), site, server,
# dashboard.
# All of them run as user 10001 and write to /tmp alone, so that the root may be read-only.

# To move it: `docker buildx imagetools inspect python:3.11-slim-bookworm`.
ARG PYTHON_IMAGE=docker.io/library/python:3.11-slim-bookworm@sha256:a36c24f9cbdf4fd0f52d67f0823eeac19c2028c637cecc392d97f980d4fec56b

FROM ${PYTHON_IMAGE} AS build
# Of torch alone. Empty: PyPI's own build, with CUDA and 3 GB more.
ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1 PATH=/opt/venv/bin:$PATH
WORKDIR /src
RUN python3 -m venv /opt/venv
COPY requirements.lock .
# What torch needs is in the lock, but for the parts of CUDA.
RUN grep '^torch==' requirements.lock > torch.txt \
    && pip install --no-deps ${TORCH_INDEX:+--index-url "$TORCH_INDEX"} --requirement torch.txt \
    && pip install --requirement requirements.lock
COPY pyproject.toml README.md LICENSE ./
COPY fl_assets fl_assets
RUN pip install --no-deps .

FROM build AS build-dashboard
COPY requirements-dev.lock .
# The development lock says which release of Streamlit; none of its other packages is taken.
RUN pip install --constraint requirements-dev.lock "fl_assets[dashboard]"

FROM ${PYTHON_IMAGE} AS base
RUN mkdir /opt/fla \
    && groupadd --gid 10001 fla \
    && useradd --uid 10001 --gid 10001 --no-create-home --home-dir /tmp --shell /usr/sbin/nologin fla
ENV PATH=/opt/venv/bin:$PATH \
    HOME=/tmp \
    FLA_HOME=/tmp/fla \
    MPLCONFIGDIR=/tmp/matplotlib \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1
WORKDIR /opt/fla
USER 10001:10001

FROM base AS site
COPY --from=build /opt/venv /opt/venv
CMD ["python", "-m", "fl_assets.site", "--help"]

FROM base AS server
COPY --from=build /opt/venv /opt/venv
CMD ["python", "-m", "fl_assets.federation.deployment.pod_server"]

FROM base AS dagster
COPY --from=build /opt/venv /opt/venv
COPY recipes recipes
ENV FLA_RECIPES=/opt/fla/recipes DAGSTER_HOME=/opt/dagster/dagster_home
CMD ["dagster", "api", "grpc", "--module-name", "fl_assets.definitions", "--host", "0.0.0.0", "--port", "3030"]

FROM base AS dashboard
COPY --from=build-dashboard /opt/venv /opt/venv
CMD ["fla", "dashboard", "--host", "0.0.0.0"]
