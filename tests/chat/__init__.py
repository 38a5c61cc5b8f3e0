"""Tests of conversations and tools."""
