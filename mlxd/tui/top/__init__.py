"""`mlxd top`: a dashboard of the queue, live throughput and active conversations."""
