"""Settings shared by all tests."""

from hypothesis import HealthCheck, settings

settings.register_profile(
    "house",
    deadline=None,  # timing is never a test
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
    print_blob=True,
)
settings.load_profile("house")
