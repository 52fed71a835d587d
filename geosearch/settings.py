"""One Settings object: environment variables before the settings file before defaults."""

from __future__ import annotations

import os
import sys
from functools import cache
from pathlib import Path

from pydantic import Field
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict, TomlConfigSettingsSource

from geosearch.errors import InputError


def _default_home() -> Path:
    # The private cluster never runs as root, so root's data lie where the ordinary user can read them.
    if hasattr(os, "geteuid") and os.geteuid() == 0:
        return Path("/var/lib/geosearch")
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Application Support" / "geosearch"
    return Path(os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share") / "geosearch"


def settings_file() -> Path:
    """Return the path of the settings file (TOML): ``GEOSEARCH_SETTINGS`` or the user's configuration folder."""
    named = os.environ.get("GEOSEARCH_SETTINGS")
    config = Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config")
    return Path(named) if named else config / "geosearch" / "settings.toml"


class Settings(BaseSettings):
    """What a user can set, each as ``GEOSEARCH_<NAME>`` in the environment or ``<name>`` in the settings file."""

    model_config = SettingsConfigDict(env_prefix="GEOSEARCH_", extra="forbid")

    home: Path = Field(default_factory=_default_home, description="data folder: private cluster, downloaded weights")
    database_url: str | None = Field(None, description="another server instead of the private cluster")
    server_bin: Path | None = Field(None, description="folder of initdb and postgres, where they are not found")
    device: str = Field("auto", description="auto, cpu, cuda, cuda:1, mps")
    batch_size: int = Field(64, ge=1, description="images encoded at a time")
    decode_threads: int = Field(0, ge=0, description="threads that read images; 0: one a core, at most 8")
    max_image_pixels: int = Field(400_000_000, ge=1, description="images of more pixels are refused")
    image_hosts: str = Field("", description="hosts that workers may fetch pictures of questions from, with commas")
    image_bytes: int = Field(20 * 1024 * 1024, ge=1, description="pictures of questions in larger files are refused")
    allow_downloads: bool = Field(False, description="let model weights be fetched from a hub")

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Read arguments first, then the environment, then the TOML file."""
        file = settings_file()
        if os.environ.get("GEOSEARCH_SETTINGS") and not file.exists():
            raise InputError(f"the settings file {file} is not there; correct GEOSEARCH_SETTINGS or unset it")
        try:
            return init_settings, env_settings, TomlConfigSettingsSource(settings_cls, toml_file=file)
        except ValueError as error:  # no TOML, no UTF-8
            raise InputError(f"the settings file {file} cannot be read: {error}. Correct that line.") from error


@cache
def settings() -> Settings:
    """Return the settings of this process, read once (``settings.cache_clear()`` reads them anew).

    Raises InputError for a settings file that cannot be read, pydantic's ValidationError for a value that is wrong.
    """
    return Settings()
