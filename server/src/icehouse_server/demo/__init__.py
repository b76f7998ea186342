"""Stand-ins of remote services that `icehouse demo` runs against."""
