"""The proof: what was pushed is downloaded by a fresh process and compared."""
