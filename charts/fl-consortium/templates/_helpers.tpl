{{- define "consortium.labels" -}}
app.kubernetes.io/name: fl-consortium
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
app.kubernetes.io/part-of: fl-assets
{{- end }}

{{/* Every namespace with its part in the consortium: a JSON list of {name, part, hospital}. */}}
{{- define "consortium.namespaces" -}}
{{- $all := list
      (dict "name" .Values.namespaces.mlops "part" "mlops")
      (dict "name" .Values.namespaces.training "part" "training") -}}
{{- range .Values.hospitals -}}
{{- $all = append $all (dict "name" .namespace "part" "hospital" "hospital" .name) -}}
{{- end -}}
{{- toJson $all -}}
{{- end }}

{{/* The peers that AWS is: of everywhere all but the VPC, in which there are the pods. */}}
{{- define "consortium.aws" -}}
{{- range .aws }}
{{- if eq . "0.0.0.0/0" }}
- ipBlock: {cidr: {{ . }}, except: {{ toJson $.vpc }}}
{{- else }}
- ipBlock: {cidr: {{ . | quote }}}
{{- end }}
{{- end }}
{{- include "consortium.blocks" .endpoints }}
{{- end }}

{{/* A NetworkPolicy's peers out of a list of address ranges. */}}
{{- define "consortium.blocks" -}}
{{- range . }}
- ipBlock: {cidr: {{ . | quote }}}
{{- end }}
{{- end }}
