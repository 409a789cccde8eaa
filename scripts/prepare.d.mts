export const PACKAGE_ROOT: string;
export function prepare(): Promise<void>;
