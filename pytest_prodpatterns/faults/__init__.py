"""What breaks: when (plan), what (a fault), where (an injector)."""
