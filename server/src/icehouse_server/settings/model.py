"""What can be set, with types, bounds and defaults."""

from pathlib import Path
from typing import Annotated, Literal, Self
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, SecretStr, field_validator, model_validator
from pydantic_settings import BaseSettings, NoDecode, PydanticBaseSettingsSource, SettingsConfigDict

from icehouse_server.core.addresses import (
    HostPattern,
    PublicUrl,
    parse_network,
    parse_origin,
    stays_on_this_machine,
)
from icehouse_server.core.home import expand_home
from icehouse_server.core.limits import (
    MIB,
    ConnectionLimits,
    CubeSettings,
    DownloadSettings,
    JobSettings,
    ServiceSettings,
    SourceSettings,
    StoreSettings,
    TileSettings,
)
from icehouse_server.settings.folders import user_cache_dir
from icehouse_server.settings.token import TOKEN, read_token_file

# Whose defaults the settings have; ``settings.fill`` goes the other way.
_CONNECTIONS = ConnectionLimits()
_STORE = StoreSettings()
_SERVICE = ServiceSettings()
_TILES = TileSettings()
_CUBES = CubeSettings()
_JOBS = JobSettings()
_DOWNLOADS = DownloadSettings()
_SOURCES = SourceSettings()

type _Host = Annotated[str, AfterValidator(lambda text: str(HostPattern.parse(text)))]
type _PublicUrl = Annotated[str, AfterValidator(lambda text: str(PublicUrl.parse(text)))]
type _Proxy = Annotated[str, AfterValidator(lambda text: str(parse_network(text)))]
type _Origin = Annotated[str, AfterValidator(parse_origin)]


class Settings(BaseSettings):
    """All settings. The field names are the keys of ``icehouse.toml`` and, in capitals, of variables."""

    model_config = SettingsConfigDict(
        extra="forbid", frozen=True, env_prefix="ICEHOUSE_", env_ignore_empty=True, allow_inf_nan=False
    )

    cache_dir: Path = Field(
        default_factory=user_cache_dir,
        description="Folder of the cache: repositories, remembered documents, lock. On a local disk.",
    )
    collections_dir: Path | None = Field(
        default=None,
        description="Folder of your own collection files (*.toml), read in addition to the built-in ones; "
        "when not set, the folder collections in the user's configuration folder, if there is one.",
    )
    collections: Annotated[tuple[str, ...] | None, NoDecode] = Field(
        default=None, description="Ids of the collections to serve; all that there are when not set."
    )
    strict: bool = Field(
        default=False,
        description="Refuse to start where one of your own collection files can't be used, instead of "
        "setting that collection aside.",
    )
    host: str = Field(default="127.0.0.1", description="Address to listen on.")
    port: int = Field(default=4326, ge=0, le=65535, description="Port to listen on; 0 picks a free one.")
    allowed_hosts: Annotated[tuple[_Host, ...], NoDecode] = Field(
        default=(),
        description="Further values of the Host header to answer to, as name, name:port or *.example.org. "
        "localhost, 127.0.0.1, [::1] and the address listened on, with the port in use, are always answered.",
    )
    public_url: _PublicUrl | None = Field(
        default=None,
        description="URL under which clients reach the daemon through a proxy, such as "
        "https://example.org/icehouse: all links begin with it. The proxy takes the path away.",
    )
    trusted_proxies: Annotated[tuple[_Proxy, ...], NoDecode] = Field(
        default=(),
        description="Addresses or networks (CIDR) of proxies whose Forwarded and X-Forwarded-* count. "
        "Those headers of anyone else are ignored.",
    )
    cors_origins: Annotated[tuple[_Origin, ...], NoDecode] = Field(
        default=(),
        description="Origins such as https://maps.example.org whose pages may read (CORS): GET and HEAD.",
    )
    trusted_network: bool = Field(
        default=False,
        description="Allow listening beyond loopback: whoever reaches the port is trusted to read. "
        "The container sets it and publishes its port on 127.0.0.1.",
    )
    token: SecretStr | None = Field(
        default=None,
        description="What callers must show, as a bearer token, to change something: "
        "16 to 512 printable characters without spaces.",
    )
    token_file: Path | None = Field(
        default=None,
        description="File that holds the token; made with a random one where it is missing. "
        "Only its owner may have rights to it (mode 0600).",
    )
    mirrors: dict[str, str] = Field(
        default_factory=dict,
        description="URL prefix to the URL prefix to ask instead, for every URL that a source asks for.",
    )
    log_format: Literal["auto", "console", "json"] = Field(
        default="auto", description="How log lines look; auto is console on a terminal, else JSON."
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        default="info", description="Least level that is logged."
    )

    decoded_cache_bytes: int = Field(
        default=_STORE.decoded_cache_bytes, ge=0, description="Memory for decoded chunks, in bytes."
    )
    max_answer_bytes: int = Field(
        default=_SERVICE.max_answer_bytes,
        ge=MIB,
        description="Memory that all answers under way may hold, in bytes.",
    )
    max_output_pixels: int = Field(
        default=_SERVICE.limits.max_output_pixels,
        ge=1,
        description="Pixels of one answer over all its bands.",
    )
    max_chunks: int = Field(
        default=_SERVICE.limits.max_chunks, ge=1, description="Chunks that one request reads."
    )
    max_fills: int = Field(
        default=_SERVICE.limits.max_fills, ge=1, description="Absent chunks that one request has fetched."
    )
    max_tile_chunks: int = Field(
        default=_TILES.max_tile_chunks,
        ge=1,
        le=4096,
        description="Absent chunks of a band that one map tile has fetched; what would need more shows "
        "what is cached.",
    )
    cube_fetches: int = Field(
        default=_CUBES.fetches,
        ge=0,
        description="Absent chunks that one client has fetched by reading cube.zarr, within cube_window; "
        "429 beyond.",
    )
    cube_window: float = Field(
        default=_CUBES.window,
        gt=0,
        description="Seconds for which cube_fetches counts; they begin with a fetch.",
    )
    max_body_bytes: int = Field(default=1 * MIB, ge=1024, description="Length of a request body, in bytes.")
    max_connections: int = Field(
        default=_CONNECTIONS.connections, ge=1, description="Connections served at once; 503 beyond."
    )
    max_event_streams: int = Field(
        default=64, ge=1, description="Streams of server-sent events open at once; 503 beyond."
    )
    request_timeout: float = Field(
        default=_SERVICE.request_timeout, gt=0, description="Seconds that a request waits for absent chunks."
    )
    receive_timeout: float = Field(
        default=_CONNECTIONS.receive_timeout,
        gt=0,
        description="Seconds that a client may take to send a request with its body.",
    )
    send_timeout: float = Field(
        default=_CONNECTIONS.send_timeout,
        gt=0,
        description="Seconds that a client may take for each MiB of its answer.",
    )
    shutdown_timeout: float = Field(
        default=20.0, gt=0, description="Seconds given to requests under way when the daemon is stopped."
    )
    disk_floor: int = Field(
        default=_SERVICE.disk_floor,
        ge=0,
        description="Bytes left free on the cache's disk; below it nothing is fetched.",
    )
    max_cache_bytes: int | None = Field(
        default=_STORE.max_cache_bytes,
        ge=64 * MIB,
        description="Bytes that the cache may take on disk; the chunks used longest ago are evicted beyond. "
        "As much as the disk holds when not set.",
    )
    keep_snapshots: float = Field(
        default=_STORE.maintenance.keep_snapshots,
        ge=0,
        description="Seconds for which past snapshots stay readable; less while the cache is at its limit.",
    )
    maintenance_interval: float = Field(
        default=_STORE.maintenance.interval, gt=0, description="Seconds between two runs of maintenance."
    )
    write_timeout: float = Field(
        default=_STORE.write_timeout, gt=0, description="Seconds that a commit may take."
    )

    blocks_at_once: int = Field(
        default=_DOWNLOADS.blocks_at_once, ge=1, description="Blocks fetched at once, over all collections."
    )
    blocks_per_collection: int = Field(
        default=_DOWNLOADS.blocks_per_collection, ge=1, description="Blocks fetched at once of a collection."
    )
    block_side: int = Field(
        default=_DOWNLOADS.block_side,
        ge=1,
        le=16384,
        description="Longest side of a block that is fetched at once, in pixels.",
    )
    max_queued_blocks: int = Field(
        default=_DOWNLOADS.max_queued_blocks, ge=1, description="Blocks that may wait; 503 beyond."
    )
    fetch_attempts: int = Field(
        default=_DOWNLOADS.retry.attempts, ge=1, le=20, description="Tries of a block, transient errors only."
    )
    fetch_budget: float = Field(
        default=_DOWNLOADS.retry.budget, gt=0, description="Seconds after which a block is not tried again."
    )
    block_timeout: float = Field(
        default=_DOWNLOADS.retry.block_timeout, gt=0, description="Seconds that one try of a block may take."
    )
    failure_ttl: float = Field(
        default=_DOWNLOADS.failure_ttl,
        ge=0,
        description="Seconds for which a chunk that failed is left alone.",
    )
    connect_timeout: float = Field(
        default=_SOURCES.connect_timeout, gt=0, description="Seconds that a connection to a source may take."
    )
    read_timeout: float = Field(
        default=_SOURCES.read_timeout, gt=0, description="Seconds in which a source must send something."
    )
    max_requests_per_host: int = Field(
        default=_SOURCES.max_requests_per_host,
        ge=1,
        description="Requests for bytes that one host of a source sees at once.",
    )
    items_max_age: float = Field(
        default=_SOURCES.items_max_age,
        ge=0,
        description="Seconds for which an item document is considered fresh.",
    )
    earthengine_project: str | None = Field(
        default=_SOURCES.earthengine.project,
        description="Google Cloud project that is registered for Earth Engine.",
    )
    earthengine_credentials: str = Field(
        default=_SOURCES.earthengine.credentials,
        min_length=1,
        description="Credentials for Earth Engine: persistent (what `earthengine authenticate` stored), "
        "application-default, none, or the path of a service account's key file.",
    )
    earthengine_url: str = Field(
        default=_SOURCES.earthengine.url,
        description="Address of Earth Engine: that of the high-volume endpoint, or of another one.",
    )
    earthengine_max_requests: int = Field(
        default=_SOURCES.earthengine.max_requests,
        ge=1,
        le=1000,
        description="Requests that Earth Engine sees at once; the quota is 40.",
    )
    max_jobs: int = Field(
        default=_JOBS.max_jobs,
        ge=1,
        description="Jobs kept, finished ones included; the oldest of those are forgotten.",
    )
    jobs_at_once: int = Field(
        default=_JOBS.jobs_at_once, ge=1, description="Seeds and refreshes that run at once."
    )
    max_job_chunks: int = Field(
        default=_JOBS.max_job_chunks, ge=1, description="Chunks that a seed is about, over all its bands."
    )
    worker_threads: int = Field(default=4, ge=1, le=256, description="Threads that decode, encode and warp.")

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],  # noqa: ARG003 - pydantic-settings calls it by these names
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,  # noqa: ARG003
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Take what the caller gives: ``load_settings`` asks the sources, to know where a value came from."""
        return (init_settings,)

    @field_validator("collections", "allowed_hosts", "trusted_proxies", "cors_origins", mode="before")
    @classmethod
    def _split(cls, value: object) -> object:
        """Read a list from a variable as words between commas."""
        return (
            [word.strip() for word in value.split(",") if word.strip()] if isinstance(value, str) else value
        )

    @field_validator("mirrors")
    @classmethod
    def _check_mirrors(cls, mirrors: dict[str, str]) -> dict[str, str]:
        for prefix, replacement in mirrors.items():
            for url in (prefix, replacement):
                parts = urlsplit(url)
                if parts.scheme not in {"http", "https", "s3"} or not parts.netloc:
                    raise ValueError(
                        f"{url!r} is not the beginning of a URL, such as https://example.org/data/"
                    )
            if prefix.endswith("/") != replacement.endswith("/"):
                raise ValueError(f"{prefix!r} and {replacement!r} must both end in / or both not")
        return mirrors

    @field_validator("earthengine_url")
    @classmethod
    def _check_url(cls, url: str) -> str:
        parts = urlsplit(url)
        if parts.scheme not in {"http", "https"} or not parts.netloc or "@" in parts.netloc or parts.query:
            raise ValueError(f"{url!r} is not an address such as https://earthengine.googleapis.com")
        return url.rstrip("/")

    @field_validator("token")
    @classmethod
    def _check_token(cls, token: SecretStr | None) -> SecretStr | None:
        if token is not None and not TOKEN.fullmatch(token.get_secret_value()):
            raise ValueError("must be 16 to 512 printable ASCII characters without spaces")
        return token

    @model_validator(mode="after")
    def _check_network(self) -> Self:
        if self.token is not None and self.token_file is not None:
            raise ValueError("token and token_file are both set; leave one of them out")
        if self.trusted_network or self.has_token:
            return self
        if not stays_on_this_machine(self.host):
            raise ValueError(
                f"host {self.host!r} is not a loopback address: whoever reaches it could use the daemon. "
                "Listen on 127.0.0.1, set token_file, or set trusted_network = true if everybody on that "
                "network is trusted"
            )
        if self.is_beyond_loopback:
            raise ValueError(
                "with public_url or trusted_proxies whoever reaches the proxy could use the daemon. Set "
                "token_file, or set trusted_network = true if everyone who reaches the proxy is trusted"
            )
        return self

    @property
    def cache_folder(self) -> Path:
        """The folder of the cache, absolute.

        Raises:
            ConfigurationError: it lies in a home folder, and there is none.
        """
        return expand_home(self.cache_dir, "cache_dir").resolve()

    @property
    def is_beyond_loopback(self) -> bool:
        """Whether others than this machine reach the daemon: by its own address, or through a proxy."""
        if not stays_on_this_machine(self.host):
            return True
        if self.public_url is None:
            return bool(self.trusted_proxies)
        return not stays_on_this_machine(PublicUrl.parse(self.public_url).name)

    @property
    def has_token(self) -> bool:
        """Whether callers must show a token for some requests."""
        return self.token is not None or self.token_file is not None

    @property
    def token_for_reading(self) -> bool:
        """Whether callers must show it for reading, too: where the network is not to be trusted."""
        return self.has_token and not self.trusted_network and self.is_beyond_loopback

    def read_token(self) -> str | None:
        """Return the token that callers must show, or None; makes the token file where it is missing.

        Raises:
            ConfigurationError: the file can't be used.
        """
        if self.token is not None:
            return self.token.get_secret_value()
        return None if self.token_file is None else read_token_file(self.token_file)
