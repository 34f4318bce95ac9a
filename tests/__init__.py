"""Tests of casimg; helpers shared by them are in tests.conftest."""
