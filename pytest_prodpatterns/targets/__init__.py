"""What a scenario attacks: one protocol a subject, adapters to ours and to other libraries."""
