"""The Teach panel: the user's own actions, their takes, and the hands-free recorder."""
