"""What outlives a process: tables, the ledger, made files."""
