import {
  isGrpcServiceError,
  NamespaceNotFoundError,
  ServiceError,
  WorkflowNotFoundError,
} from "@temporalio/client";
import { proxyBefore } from "../config/proxy-environment.ts";
import { ImportError } from "../domain/import-failure.ts";

// Answers that a server repeats each time: INVALID_ARGUMENT, NOT_FOUND (of a namespace),
// PERMISSION_DENIED, UNIMPLEMENTED, UNAUTHENTICATED.
// https://grpc.github.io/grpc/core/md_doc_statuscodes.html
const REFUSALS: readonly unknown[] = [3, 5, 7, 12, 16];

/**
 * Translates an error of Temporal's client. Any other value is returned unchanged.
 *
 * @param address - `host:port` of the server, if the error is that of a new connection. Default: an
 *   existing connection
 */
export function temporalFailure(error: unknown, address?: string): unknown {
  if (error instanceof ImportError || error instanceof WorkflowNotFoundError) return error;
  if (error instanceof NamespaceNotFoundError) return refused(error.message, error);
  const isService = error instanceof ServiceError || isGrpcServiceError(error);
  const isConnecting = error instanceof Error && /Failed to connect|deadline/i.test(error.message);
  if (!isService && !isConnecting) return error;
  const cause = error instanceof Error && error.cause instanceof Error ? error.cause : error;
  const reason = cause instanceof Error ? cause.message : String(cause);
  if (cause instanceof Error && "code" in cause && REFUSALS.includes(cause.code)) {
    return refused(reason, error);
  }
  const between = proxyBefore(address);
  const message = `The Temporal server does not answer: ${reason}`;
  if (between === undefined)
    return new ImportError("TemporalUnavailable", message, { cause: error });
  const { variable, proxy } = between;
  return new ImportError(
    "TemporalUnavailable",
    `${message} (through the proxy ${proxy} of the variable ${variable})`,
    {
      cause: error,
      hint: `Unset ${variable}, or name the host of TEMPORAL_ADDRESS in no_proxy, if it needs no proxy.`,
    },
  );
}

function refused(reason: string, cause: unknown): ImportError {
  return new ImportError("BadConfiguration", `The Temporal server refuses: ${reason}`, {
    cause,
    hint: "Correct TEMPORAL_NAMESPACE and the credentials in TEMPORAL_*.",
  });
}
