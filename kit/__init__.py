"""What the controller, the agent and the edge all stand on. It imports none of them."""
