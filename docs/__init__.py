"""What is written about Pictor, and what writes the tables in it."""
