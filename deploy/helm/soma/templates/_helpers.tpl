{{- define "soma.name" -}}
{{- .Release.Name | trunc 40 | trimSuffix "-" -}}
{{- end -}}

{{- define "soma.labels" -}}
app.kubernetes.io/name: soma
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ .Chart.Name }}-{{ .Chart.Version }}
{{- end -}}

{{- define "soma.selector" -}}
app.kubernetes.io/name: soma
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "soma.image" -}}
{{ required "image.repository: the image of `docker build`, in a registry of yours" .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}
{{- end -}}

{{- define "soma.serviceAccount" -}}
{{ .Values.serviceAccount.name | default (include "soma.name" .) }}
{{- end -}}

{{/* What cannot be right together is refused here, once, by name. */}}
{{- define "soma.check" -}}
{{- range tuple "SA01_KAFKA_BOOTSTRAP_SERVERS" "SA01_TEMPORAL_HOST" "SA01_OPA_URL" "SA01_MODEL_URL" "SA01_PUBLIC_URL" -}}
{{- if not (index $.Values.settings .) -}}
{{- fail (printf "settings.%s is required: `soma registry` says what it means" .) -}}
{{- end -}}
{{- if hasPrefix "embedded:" (index $.Values.settings .) -}}
{{- fail (printf "settings.%s: an engine within the process is not for several of them" .) -}}
{{- end -}}
{{- end -}}
{{- range tuple "SECRET_KEY" "SA01_CRYPTO_FERNET_KEY" "SA01_DB_DSN" "SA01_REDIS_URL" "SA01_MODEL_API_KEY" "SA01_KAFKA_SASL_PASSWORD" "SA01_TEMPORAL_API_KEY" "SA01_SMTP_URL" "SA01_KEYCLOAK_CLIENT_SECRET" "SA01_API_KEY" -}}
{{- if hasKey $.Values.settings . -}}
{{- fail (printf "settings.%s: a secret does not belong in a ConfigMap; it comes from secrets.existingSecret or secrets.vault" .) -}}
{{- end -}}
{{- end -}}
{{- $vault := .Values.secrets.vault.address -}}
{{- if and .Values.secrets.existingSecret $vault -}}
{{- fail "secrets: existingSecret or vault.address, not both: a setting that comes from two places is refused" -}}
{{- end -}}
{{- if not (or .Values.secrets.existingSecret $vault) -}}
{{- fail "secrets.existingSecret or secrets.vault.address is required: SECRET_KEY, SA01_CRYPTO_FERNET_KEY, SA01_DB_DSN and SA01_REDIS_URL come from there" -}}
{{- end -}}
{{- if not (has .Values.sandbox.mode (list "userNamespaces" "runtimeClass" "off")) -}}
{{- fail "sandbox.mode: expected userNamespaces, runtimeClass or off" -}}
{{- end -}}
{{- end -}}

{{/* Environment of a container; `model` says whether it may speak to the model's server. */}}
{{- define "soma.environment" -}}
envFrom:
  - configMapRef:
      name: {{ include "soma.name" .root }}
env:
{{- if .root.Values.secrets.existingSecret }}
{{- $names := concat (list "SECRET_KEY" "SA01_CRYPTO_FERNET_KEY" "SA01_DB_DSN" "SA01_REDIS_URL") .root.Values.secrets.engineKeys }}
{{- if .model }}{{ $names = concat $names .root.Values.secrets.modelKeys }}{{ end }}
{{- range $names }}
  - name: {{ . }}
    valueFrom:
      secretKeyRef:
        name: {{ $.root.Values.secrets.existingSecret }}
        key: {{ . }}
{{- end }}
{{- else }}
  # The image names a file for a database; empty is absent, and Vault's word counts.
  - name: SA01_DB_DSN
    value: ""
  - name: VAULT_ADDR
    value: {{ .root.Values.secrets.vault.address | quote }}
  - name: VAULT_KUBERNETES_ROLE
    value: {{ .root.Values.secrets.vault.role | quote }}
  - name: VAULT_SECRETS_PATH
    value: {{ .root.Values.secrets.vault.path | quote }}
{{- end }}
{{- end -}}

{{- define "soma.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
runAsNonRoot: true
capabilities:
  drop: ["ALL"]
{{- end -}}

{{- define "soma.podSecurity" -}}
runAsNonRoot: true
runAsUser: 10001
runAsGroup: 10001
fsGroup: 10001
{{- end -}}

{{/* Mounts of what a process writes, its data folder and /tmp, and of the certificates of its engines. */}}
{{- define "soma.mounts" -}}
- { name: data, mountPath: /var/lib/soma }
- { name: tmp, mountPath: /tmp }
{{- if .workspaces }}
- { name: workspaces, mountPath: /var/lib/soma/workspaces }
{{- end }}
{{- if .root.Values.engineCertificates.existingSecret }}
- { name: engine-certificates, mountPath: /etc/soma/engines, readOnly: true }
{{- end }}
{{- end -}}

{{- define "soma.volumes" -}}
- { name: data, emptyDir: {} }
- { name: tmp, emptyDir: {} }
{{- if .workspaces }}
- name: workspaces
  persistentVolumeClaim:
    claimName: {{ .root.Values.workspaces.existingClaim | default (printf "%s-workspaces" (include "soma.name" .root)) }}
{{- end }}
{{- with .root.Values.engineCertificates.existingSecret }}
- name: engine-certificates
  secret: { secretName: {{ . }}, defaultMode: 0440 }
{{- end }}
{{- end -}}

{{/* Brings the database up to date before anything else: one at a time does, and it takes a moment where it is. */}}
{{- define "soma.migrate" -}}
- name: migrate
  image: {{ include "soma.image" . }}
  imagePullPolicy: {{ .Values.image.pullPolicy }}
  args: ["migrate"]
  {{- include "soma.environment" (dict "root" . "model" false) | nindent 2 }}
  securityContext: {{- include "soma.containerSecurity" . | nindent 4 }}
  resources:
    requests: { cpu: 100m, memory: 64Mi }
    limits: { memory: 256Mi }
  volumeMounts: {{- include "soma.mounts" (dict "root" . "workspaces" false) | nindent 4 }}
{{- end -}}
