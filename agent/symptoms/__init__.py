"""The three symptoms (no answer in time, slow model, failed push) led to a cause by what the traces hold."""
