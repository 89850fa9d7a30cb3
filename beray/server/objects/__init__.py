"""Objects of the gateway: local and S3 stores, presigned URLs."""
