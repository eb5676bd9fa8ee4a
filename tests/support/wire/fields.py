"""Reading the fields of a head off the wire, without the gateway's or any library's parser."""

from __future__ import annotations


def fields(lines: bytes) -> tuple[tuple[bytes, bytes], ...]:
    """Return the fields that stand one a line; white space around values is left out."""
    pairs = (line.partition(b":") for line in lines.splitlines() if line)
    return tuple((name, value.strip(b" \t")) for name, _, value in pairs)


class Fields:
    """The fields of ``head``, as they stand; white space around values is left out."""

    head: bytes

    @property
    def headers(self) -> list[tuple[bytes, bytes]]:
        lines = self.head.split(b"\r\n")[1:]
        return [(name, value.strip(b" \t")) for name, _, value in (line.partition(b":") for line in lines if line)]

    def all(self, name: bytes) -> list[bytes]:
        """Every value of a field, whatever the case of its name."""
        return [value for key, value in self.headers if key.lower() == name.lower()]

    def one(self, name: bytes) -> bytes | None:
        """The only value of a field, or None; several are an error."""
        values = self.all(name)
        assert len(values) <= 1, values
        return values[0] if values else None
