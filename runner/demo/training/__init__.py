"""How the demo model is made; needs the extra `train`. Entry point: `runner.demo.train`."""
