"""The pod security standard ``restricted``."""

from __future__ import annotations

from collections.abc import Iterator

from fl_assets_tests.cluster.fakekube.kinds import Manifest

LABEL = "pod-security.kubernetes.io/enforce"
VOLUMES = {
    "configMap",
    "csi",
    "downwardAPI",
    "emptyDir",
    "ephemeral",
    "persistentVolumeClaim",
    "projected",
    "secret",
}


def violations(spec: Manifest) -> list[str]:
    """Return what keeps a pod out of a restricted namespace, in the words of Kubernetes."""
    pod = spec.get("securityContext") or {}
    found = list(_of_pod(spec))
    for container in spec["containers"]:
        found += _of_container(container["name"], pod, container.get("securityContext") or {})
    return found


def _of_pod(spec: Manifest) -> Iterator[str]:
    hosts = [key for key in ("hostNetwork", "hostPID", "hostIPC") if spec.get(key)]
    if hosts:
        yield f"host namespaces ({', '.join(hosts)}=true)"
    for volume in spec.get("volumes") or []:
        kinds = set(volume) - {"name"}
        if not kinds <= VOLUMES:
            yield f'restricted volume types (volume "{volume["name"]}" uses {", ".join(kinds)})'


def _of_container(name: str, pod: Manifest, own: Manifest) -> Iterator[str]:
    capabilities = own.get("capabilities") or {}
    merged = {**pod, **own}
    seccomp = (merged.get("seccompProfile") or {}).get("type")
    if own.get("privileged"):
        yield f'privileged (container "{name}" must not set securityContext.privileged=true)'
    if own.get("allowPrivilegeEscalation") is not False:
        yield (
            f'allowPrivilegeEscalation != false (container "{name}" must set '
            "securityContext.allowPrivilegeEscalation=false)"
        )
    if "ALL" not in (capabilities.get("drop") or []) or set(capabilities.get("add") or []) - {
        "NET_BIND_SERVICE"
    }:
        yield (
            f'unrestricted capabilities (container "{name}" must set '
            'securityContext.capabilities.drop=["ALL"])'
        )
    if merged.get("runAsNonRoot") is not True:
        yield (
            f'runAsNonRoot != true (pod or container "{name}" must set '
            "securityContext.runAsNonRoot=true)"
        )
    if merged.get("runAsUser") == 0:
        yield f'runAsUser=0 (pod or container "{name}" must not set runAsUser=0)'
    if seccomp not in ("RuntimeDefault", "Localhost"):
        yield (
            f'seccompProfile (pod or container "{name}" must set '
            'securityContext.seccompProfile.type to "RuntimeDefault" or "Localhost")'
        )
