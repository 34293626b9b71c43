"""How a test starts Java."""

OPTIONS = "-XX:TieredStopAtLevel=1 -XX:ReservedCodeCacheSize=256m -XX:+UseSerialGC"
"""Quick to compile, as no plan runs often; room for all of them, as this compiler's own 48 MB are full after a night,
and a full code cache leaves the rest interpreted, or ends the JVM."""
