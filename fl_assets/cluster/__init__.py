"""Jobs on Kubernetes: manifests, a group of jobs over namespaces, and failures in words."""
