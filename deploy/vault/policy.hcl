# What soma may do: read the one secret with its settings. That it may renew its own token is in Vault's policy `default`.
path "secret/data/soma" {
  capabilities = ["read"]
}
