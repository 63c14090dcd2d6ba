"""How is a classifier of each kind loaded? One file a kind, each with `load(spec, weights) -> (name, module)`."""
