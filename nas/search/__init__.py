"""The search: an ask/tell loop whose one truth is the ledger; samplers propose, executors evaluate."""
