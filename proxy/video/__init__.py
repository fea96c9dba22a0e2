"""Videos, from what a client asks for to what it is answered: `ask`, `plan`, `prepare`, `answer`."""
