"""Whatever an attacker may send, to the gateway or as one of its peers."""
