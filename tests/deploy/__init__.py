"""Units, roles and playbooks, on booted machines."""
