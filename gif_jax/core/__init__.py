"""The ground floor: what every wing needs and no wing owns."""
