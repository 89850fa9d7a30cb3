"""Interactive chats in a terminal."""
