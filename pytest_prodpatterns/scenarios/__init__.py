"""Around chaostoolkit-lib: loader, control, verdicts, catalogue; actions and probes by subject."""
