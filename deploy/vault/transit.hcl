# With SA01_CRYPTO_TRANSIT_KEY=transit/soma: use the key that encrypts, which stays in Vault.
path "transit/encrypt/soma" {
  capabilities = ["update"]
}
path "transit/decrypt/soma" {
  capabilities = ["update"]
}
