/** The servers that downloads may reach. */
export interface EgressRules {
  /** Without a colon: `https`. */
  readonly schemes: readonly string[];
  /** The ports that may be used, whether a URL names them or not. */
  readonly ports: readonly number[];
  /** CIDRs that may be reached although they are not public. */
  readonly allowedNetworks: readonly string[];
  /**
   * The only hosts that may be named: `example.org`, or `*.example.org` for all below it. Empty:
   * any.
   */
  readonly allowedHosts: readonly string[];
  /** Hosts that may not be named, even if they are in the other list. */
  readonly deniedHosts: readonly string[];
}

/** Times in ms and rates in bytes per second of downloads. */
export interface DownloadSettings extends EgressRules {
  /** For name resolution, connection and TLS together. */
  readonly connectTimeoutMs: number;
  /** For the headers of a response, once connected. */
  readonly headerTimeoutMs: number;
  /** The longest time without a byte; also the time over which the rate is measured. */
  readonly idleTimeoutMs: number;
  /** A slower connection is replaced. */
  readonly minimumRate: number;
  /** Connections that download one image, if its server supports ranges. Default: 1. */
  readonly connections?: number | undefined;
  /** Shared by all downloads of this process. Default: no limit. */
  readonly bandwidthLimit?: number | undefined;
}

/** The section `sources.web` of the configuration, paths absolute. */
export interface WebSettings extends DownloadSettings {
  /** PEM file of authorities that are trusted in addition to the usual ones. */
  readonly caFile: string | undefined;
  /** Scheme, host and port of the proxy, without credentials. */
  readonly proxyUrl: string | undefined;
  /** The file that holds `user:password` for the proxy. */
  readonly proxyCredentialsFile: string | undefined;
  /** Hosts and networks that are reached without the proxy. */
  readonly noProxy: readonly string[];
}
