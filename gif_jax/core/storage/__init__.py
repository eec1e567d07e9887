"""What is on disk: files and arrays that are whole or absent, checksums, locks, work in the making."""
