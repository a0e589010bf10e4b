{{- define "testops.name" -}}
{{ printf "%s-fleet" .Release.Name | trunc 63 | trimSuffix "-" }}
{{- end }}

{{- define "testops.selector" -}}
app.kubernetes.io/name: testops-runner
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/component: fleet
{{- end }}

{{- define "testops.labels" -}}
{{ include "testops.selector" . }}
app.kubernetes.io/part-of: testops
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
{{- end }}
