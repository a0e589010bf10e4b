{{- /* Metadata of a part: call with (dict "root" $ "part" "airflow" "wave" 2). Deleted with its objects, unless `keep`. */}}
{{- define "environment.metadata" -}}
name: testops-{{ .root.Values.name }}-{{ .part }}
namespace: argocd
annotations: {argocd.argoproj.io/sync-wave: {{ .wave | quote }}}
{{- if not .keep }}
finalizers: [resources-finalizer.argocd.argoproj.io]
{{- end }}
{{- end }}

{{- define "environment.repository" -}}
repoURL: {{ required "repository must be set" .Values.repository }}
targetRevision: {{ required "revision must be set" .Values.revision | quote }}
{{- end }}

{{- define "environment.destination" -}}
{server: {{ .Values.server }}, namespace: testops-{{ required "name must be set" .Values.name }}}
{{- end }}

{{- define "environment.sync" -}}
syncOptions: [CreateNamespace=true, ServerSideApply=true, RespectIgnoreDifferences=true]
retry: {limit: 5, backoff: {duration: 10s, factor: 2, maxDuration: 1m}}
{{- end }}
