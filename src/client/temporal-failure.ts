import {
  isGrpcServiceError,
  NamespaceNotFoundError,
  ServiceError,
  WorkflowNotFoundError,
} from "@temporalio/client";
import { ImportError } from "../domain/import-failure.ts";

// What a server answers that is there and will not do it, however often it is asked: INVALID_ARGUMENT, NOT_FOUND (of a
// namespace), PERMISSION_DENIED, UNIMPLEMENTED, UNAUTHENTICATED. https://grpc.github.io/grpc/core/md_doc_statuscodes.html
const REFUSALS: readonly unknown[] = [3, 5, 7, 12, 16];

/** Says what an error of Temporal's client means. Anything else is returned as it is. */
export function temporalFailure(error: unknown): unknown {
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
  return new ImportError("TemporalUnavailable", `The Temporal server does not answer: ${reason}`, {
    cause: error,
  });
}

function refused(reason: string, cause: unknown): ImportError {
  return new ImportError("BadConfiguration", `The Temporal server refuses: ${reason}`, {
    cause,
    hint: "Correct TEMPORAL_NAMESPACE and the credentials in TEMPORAL_*.",
  });
}
