"""The built-in corpora, a file each."""
