"""The data plane: routes inference requests to ready engines and forwards bytes both ways."""
