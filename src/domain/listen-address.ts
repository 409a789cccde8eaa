/** The address that a server listens on. */
export interface ListenAddress {
  /** An IP address, or a name of this host. */
  readonly host: string;
  /** 0: any free port. */
  readonly port: number;
}
