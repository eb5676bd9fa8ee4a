"""What several tests share: minted tokens, clocks, servers, vectors. Nothing here is a test."""
