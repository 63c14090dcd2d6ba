"""Where the models and the data of an audit come from: texts such as `digits`, `net.py:make` or `test.parquet`."""
