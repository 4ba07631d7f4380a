"""Forecast what a plan takes before any work begins."""
