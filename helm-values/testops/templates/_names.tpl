{{- define "testops.name" -}}
{{ printf "%s-fleet" .Release.Name | trunc 63 | trimSuffix "-" }}
{{- end }}

{{- define "testops.selector" -}}
app.kubernetes.io/name: testops-runner
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/component: fleet
{{- end }}

{{- define "testops.common" -}}
app.kubernetes.io/part-of: testops
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
{{- end }}

{{- define "testops.labels" -}}
{{ include "testops.selector" . }}
{{ include "testops.common" . }}
{{- end }}

{{- /* Labels of a component besides the fleet: call with (dict "root" $ "component" "collector"). */}}
{{- define "testops.component" -}}
app.kubernetes.io/name: testops-{{ .component }}
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .component }}
{{- end }}

{{- define "testops.full" -}}
{{ printf "%s-%s" .root.Release.Name .part | trunc 63 | trimSuffix "-" }}
{{- end }}

{{- /* Names in the DNS: every policy needs them. */}}
{{- define "testops.dns" -}}
- {{ with .Values.networkPolicies.dns.to }}to:
    {{- toYaml . | nindent 4 }}
  {{ end }}ports:
    {{- range .Values.networkPolicies.dns.ports }}
    - {protocol: UDP, port: {{ . }}}
    - {protocol: TCP, port: {{ . }}}
    {{- end }}
{{- end }}

{{- define "testops.kafkaEgress" -}}
- to:
    {{- toYaml .Values.networkPolicies.kafka.to | nindent 4 }}
  ports:
    {{- range .Values.networkPolicies.kafka.ports }}
    - {protocol: TCP, port: {{ . }}}
    {{- end }}
{{- end }}

{{- define "testops.kafka" -}}
{{ required "kafka.bootstrap must be set: host:port[,host:port…]" .Values.kafka.bootstrap }}
{{- end }}

{{- /* A pod that runs the command line `testops` of the Airflow image: call with (dict "root" $ "name" "…" "account" "…" "command" (list …) "resources" …). */}}
{{- define "testops.commandPod" -}}
serviceAccountName: {{ .account }}
automountServiceAccountToken: false
enableServiceLinks: false
securityContext:
  runAsNonRoot: true
  runAsUser: 50000
  runAsGroup: 0
  seccompProfile: {type: RuntimeDefault}
{{- with .root.Values.imagePullSecrets }}
imagePullSecrets:
  {{- toYaml . | nindent 2 }}
{{- end }}
containers:
  - name: {{ .name }}
    image: {{ .root.Values.airflowImage | quote }}
    imagePullPolicy: {{ .root.Values.imagePullPolicy }}
    command:
      {{- toYaml .command | nindent 6 }}
    env:
      - name: TESTOPS_DSN
        valueFrom: {secretKeyRef: {name: {{ .root.Values.store.secret | quote }}, key: {{ .root.Values.store.key | quote }}}}
      - {name: TESTOPS_KAFKA_BOOTSTRAP, value: {{ include "testops.kafka" .root | quote }}}
      - {name: TESTOPS_KAFKA_TIMEOUT_S, value: {{ .root.Values.kafka.timeoutSeconds | quote }}}
      - {name: TESTOPS_KAFKA_PARTITIONS, value: {{ .root.Values.topics.partitions | quote }}}
      - {name: TESTOPS_KAFKA_REPLICATION, value: {{ .root.Values.topics.replication | quote }}}
      - {name: TESTOPS_FLEET_PARTITIONS, value: {{ .root.Values.topics.fleetPartitions | quote }}}
    envFrom:
      - secretRef: {name: {{ .root.Values.secret | quote }}, optional: true}
      - secretRef: {name: {{ .root.Values.airflowSecret | quote }}, optional: true}
    volumeMounts:
      - {name: tmp, mountPath: /tmp}
    resources:
      {{- toYaml .resources | nindent 6 }}
    securityContext:
      allowPrivilegeEscalation: false
      readOnlyRootFilesystem: true
      capabilities: {drop: [ALL]}
volumes:
  - {name: tmp, emptyDir: {sizeLimit: 64Mi}}
{{- end }}
