"""A DAG file that cannot be imported, so that Airflow has an import error to tell of."""

raise RuntimeError("this file of the sample is broken on purpose")
