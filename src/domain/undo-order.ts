/** The import whose work a step undoes. */
export interface UndoOrder {
  readonly image_id: string;
  readonly epoch: number;
}

/** The copy of an import that a step removes. */
export interface RemovalOrder extends UndoOrder {
  readonly store: string;
}

/** A copy to remove, and the node that reaches its store. */
export interface CopyToRemove extends RemovalOrder {
  readonly node: string;
}
