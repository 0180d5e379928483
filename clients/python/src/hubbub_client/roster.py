"""Who is in a room, kept current. Section 6 of PROTOCOL.md."""

from hubbub_client.messages import Frame, Joined, Left, Member

Change = Joined | Left


class Roster:
    """`members` is None where they are not listed; `count` as well in a room without presence.

    Every method returns what to tell the user of.
    """

    def __init__(self) -> None:
        self._listed: dict[str, Member] | None = None
        self.count: int | None = None
        self._version = 0
        # While the list is being asked for: its pages so far, and what was pushed meanwhile.
        self._pages: list[Frame] | None = None
        self._held: list[Frame] = []

    @property
    def members(self) -> list[Member] | None:
        """By name."""
        if self._listed is None:
            return None
        return [self._listed[user] for user in sorted(self._listed)]

    @property
    def asks(self) -> Frame | None:
        """The fields of the `members` request that is needed to go on; None if none is."""
        if self._pages is None:
            return None
        return {"after": self._pages[-1]["members"][-1]["user"]} if self._pages else {}

    def listed(self, frame: Frame) -> list[Change]:
        """Take over the state that a `joined` or a `presence` brings."""
        self._pages = None
        self._held = []
        return self._replace(frame["members"], frame["count"], frame["version"])

    def counted(self, frame: Frame) -> list[Change]:
        """A `presence` push."""
        if frame["version"] <= self._version:
            return []
        return self.listed({"members": None, **frame})

    def changed(self, frame: Frame) -> list[Change]:
        """A `join` or `leave` push. When some before it are missing, `asks` says what to do."""
        if self._pages is not None:
            self._held.append(frame)
            return []
        if frame["version"] > self._version + 1:
            self._pages = []
            self._held.append(frame)
            return []
        return self._apply(frame)

    def page(self, frame: Frame) -> list[Change]:
        """An answer to `asks`."""
        if self._pages is None:
            return []
        if frame["members"] is None:  # it became crowded meanwhile
            return self.listed(frame)
        if frame["members"] or not self._pages:
            self._pages.append(frame)
        if frame["more"] and frame["members"]:
            return []
        first, held = self._pages[0], self._held
        everybody = [member for page in self._pages for member in page["members"]]
        told = self.listed({**first, "members": everybody})
        return told + [change for later in held for change in self._apply(later)]

    def unavailable(self) -> list[Change]:
        """The list is not to be had: go on with what was pushed."""
        held, self._pages, self._held = self._held, None, []
        return [change for later in held for change in self._apply(later)]

    def _apply(self, frame: Frame) -> list[Change]:
        if frame["version"] <= self._version:
            return []
        self._version = frame["version"]
        self.count = frame["count"]
        user = frame["user"]
        if self._listed is None:
            return []
        if frame["type"] == "leave":
            return [Left(user)] if self._listed.pop(user, None) else []
        new = user not in self._listed
        self._listed[user] = Member(user, frame["info"])
        return [Joined(user, frame["info"])] if new else []

    def _replace(
        self, listed: list[Frame] | None, count: int | None, version: int | None
    ) -> list[Change]:
        before = self._listed
        self.count = count
        self._version = version or 0
        if listed is None:
            self._listed = None
            return []
        self._listed = {m["user"]: Member(m["user"], m["info"], m["sessions"]) for m in listed}
        if before is None:
            return []
        left: list[Change] = [Left(user) for user in before if user not in self._listed]
        return left + [Joined(u, m.info) for u, m in self._listed.items() if u not in before]
