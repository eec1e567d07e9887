"""What is on disk: files and arrays that are complete or absent, checksums, locks, work in the making."""
