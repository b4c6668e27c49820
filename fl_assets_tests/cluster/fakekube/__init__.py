"""A Kubernetes API server over HTTP with controllers and a small kubelet, for tests.

Objects, RBAC, admission, jobs and garbage collection behave as in Kubernetes; a pod is a process
of this machine. ``FakeKube`` in ``fake.py`` is the whole interface and says what is not as real.
"""

from fl_assets_tests.cluster.fakekube.fake import FakeKube
from fl_assets_tests.cluster.fakekube.http_server import Request

__all__ = ["FakeKube", "Request"]
