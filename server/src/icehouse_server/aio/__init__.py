"""What every layer needs of asyncio, and no layer owns."""
