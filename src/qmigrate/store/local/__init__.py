"""The client's local mode as a store. It talks to no network and decides nothing."""
