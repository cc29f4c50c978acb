"""`gatelab dashboard`: servers on this machine's loopback that show runs and studies, and end with the command."""
